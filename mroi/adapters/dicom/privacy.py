"""What in a DICOM header may identify a person, and a header without it.

The rules follow the Basic Application Level Confidentiality Profile of DICOM PS3.15 and are wider
where that is simpler: names, dates, times, ages, free text, unique identifiers and all private
elements are told by their kind, the rest by name. Burned-in text and faces are in the pixels, where
nothing here looks. Nothing here makes data anonymous, and no header is marked as if it were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mroi.adapters.dicom.part10 import build_head, parse_head, refusing

__all__ = ["Identifier", "clean_head", "find_identifiers"]

SHOWN = 64
"""Characters of a value that are shown."""

_PERSONAL_VRS = {"PN", "DA", "TM", "DT", "AS", "LT", "ST", "UT"}
_UIDS_OF_KINDS = ("ClassUID", "TransferSyntaxUID", "SyntaxUID", "SchemeUID", "ContextUID")
"""Ends of the names of UIDs that stand for a kind of thing, not for one thing."""
_UIDS_KEPT = {"ImplementationClassUID", "MappingResourceUID", "ContextGroupExtensionCreatorUID"}

_EMPTIED = {
    "AccessionNumber", "ContentDate", "ContentTime", "ContrastBolusAgent", "PatientBirthDate",
    "PatientID", "PatientName", "PatientSex", "ReferringPhysicianName", "StudyDate", "StudyID",
    "StudyTime",
}  # fmt: skip
"""Identifying elements that an image has to have: they stay, without a value."""

_PERSONAL = _EMPTIED | {
    "AcquisitionDeviceProcessingDescription", "ActualHumanPerformersSequence", "AdmissionID",
    "AdmittingDiagnosesCodeSequence", "AdmittingDiagnosesDescription", "Allergies",
    "AuthorObserverSequence", "BranchOfService", "CassetteID",
    "ClinicalTrialCoordinatingCenterName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName", "ClinicalTrialSeriesDescription", "ClinicalTrialSeriesID",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSponsorName",
    "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointDescription",
    "ClinicalTrialTimePointID", "ConfidentialityCode", "ContentCreatorIdentificationCodeSequence",
    "ContributingEquipmentSequence", "CountryOfResidence", "CurrentPatientLocation",
    "CustodialOrganizationSequence", "DataSetTrailingPadding", "DetectorID", "DeviceSerialNumber",
    "DeviceUID", "DigitalSignaturesSequence", "DischargeDiagnosisDescription",
    "DistributionAddress", "DistributionName", "EncryptedAttributesSequence", "EthnicGroup",
    "FillerOrderNumberImagingServiceRequest", "FillerOrderNumberProcedure", "GantryID",
    "GeneratorID", "GraphicAnnotationSequence", "HumanPerformerCodeSequence",
    "HumanPerformerOrganization", "IconImageSequence", "InstitutionCodeSequence", "InstitutionName",
    "InstitutionalDepartmentName", "InsurancePlanIdentification", "InterpretationApproverSequence",
    "InterpretationIDIssuer", "IssuerOfAdmissionID", "IssuerOfPatientID",
    "IssuerOfServiceEpisodeID", "LensMake", "LensSerialNumber", "MedicalAlerts",
    "MedicalRecordLocator", "MilitaryRank", "ModifiedAttributesSequence", "ModifyingSystem",
    "NamesOfIntendedRecipientsOfResults", "Occupation", "OperatorIdentificationSequence",
    "OrderCallbackPhoneNumber", "OriginalAttributesSequence", "OtherPatientIDs",
    "OtherPatientIDsSequence", "ParticipantSequence", "PatientAddress",
    "PatientInstitutionResidence", "PatientInsurancePlanCodeSequence",
    "PatientPrimaryLanguageCodeSequence", "PatientReligiousPreference", "PatientSexNeutered",
    "PatientSize", "PatientState", "PatientTelecomInformation", "PatientTelephoneNumbers",
    "PatientWeight", "PerformedLocation", "PerformedProcedureStepDescription",
    "PerformedProcedureStepID", "PerformedStationAETitle", "PerformedStationName",
    "PerformedStationNameCodeSequence", "PerformingPhysicianIdentificationSequence",
    "PersonIdentificationCodeSequence", "PersonTelecomInformation", "PersonTelephoneNumbers",
    "PhysiciansOfRecordIdentificationSequence", "PhysiciansReadingStudyIdentificationSequence",
    "PlacerOrderNumberImagingServiceRequest", "PlacerOrderNumberProcedure", "PlateID",
    "PreMedication", "PregnancyStatus", "PrivateInformation", "ProtocolName", "ReasonForStudy",
    "ReceivingAE", "ReferencedPatientPhotoSequence", "ReferencedPatientSequence",
    "ReferringPhysicianIdentificationSequence", "ReferringPhysicianTelephoneNumbers",
    "RegionOfResidence", "RequestAttributesSequence", "RequestedContrastAgent",
    "RequestedProcedureDescription", "RequestedProcedureID", "RequestedProcedureLocation",
    "RequestingService", "ResponsibleOrganization", "RetrieveAETitle",
    "ScheduledHumanPerformersSequence", "ScheduledPatientInstitutionResidence",
    "ScheduledProcedureStepDescription", "ScheduledProcedureStepID",
    "ScheduledProcedureStepLocation", "ScheduledStationAETitle", "ScheduledStationName",
    "ScheduledStationNameCodeSequence", "ScheduledStudyLocation", "ScheduledStudyLocationAETitle",
    "SendingApplicationEntityTitle", "SeriesDescription", "ServiceEpisodeDescription",
    "ServiceEpisodeID", "SlideIdentifier", "SmokingStatus", "SourceApplicationEntityTitle",
    "SourceSerialNumber", "SpecialNeeds", "StationAETitle", "StationName", "StudyDescription",
    "StudyIDIssuer", "TimezoneOffsetFromUTC", "VisitStatusID", "XRaySourceID",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identifier:
    """An element that may identify a person.

    Attributes
    ----------
    tag : str
        Like ``(0010,0010)``; within a sequence the tags on the way, joined by ``/``.
    keyword : str
        DICOM keyword; ``private`` or ``unknown`` for elements that have none.
    value : str
        Its first characters.
    """

    tag: str
    keyword: str
    value: str


def find_identifiers(part10: bytes) -> list[Identifier]:
    """List the elements of a head, sequences included, that may identify a person.

    Raises
    ------
    SourceError
        If the head is damaged.
    """
    with refusing("head"):
        dataset, _ = parse_head(part10)
        return [
            Identifier(path, _keyword(element), _shown(element))
            for part in (dataset.file_meta, dataset)
            for path, _, element in _walk(part, "")
            if not element.is_empty
        ]


def clean_head(part10: bytes, salt: bytes) -> bytes:
    """Return a head without the elements that `find_identifiers` lists.

    Elements that an image has to have are emptied. Unique identifiers are replaced, the same one
    always by the same, so that the instances of a series still belong together.

    Parameters
    ----------
    part10 : bytes
        A file without its pixels.
    salt : bytes
        Random bytes, the same for all heads of a series: who does not have them cannot tell which
        identifier became which.

    Returns
    -------
    bytes
        A head; a file built from it is not the source any more.

    Raises
    ------
    SourceError
        If the head is damaged.
    """
    with refusing("head"):
        dataset, element = parse_head(part10)
        for part in (dataset.file_meta, dataset):
            for _, parent, found in list(_walk(part, "")):
                _clean(parent, found, salt)
        return build_head(dataset, decoded=element is not None and element.encapsulated)


def _clean(parent: Any, element: Any, salt: bytes) -> None:
    if element.VR == "UI" and not element.tag.is_private:
        value = element.value
        several = not isinstance(value, str) and value is not None
        uids = [_other_uid(str(uid), salt) for uid in (value if several else [value or ""])]
        element.value = uids if several else uids[0]
    elif element.keyword in _EMPTIED:
        element.value = None
    else:
        del parent[element.tag]


def _other_uid(uid: str, salt: bytes) -> str:
    if not uid:
        return uid
    digest = hashlib.sha256(salt + uid.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _walk(dataset: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, dataset, element) of what identifies; what is inside of it is not looked at."""
    for element in dataset:
        tag = f"{path}({element.tag.group:04X},{element.tag.element:04X})"
        if _is_personal(element):
            yield tag, dataset, element
        elif element.VR == "SQ":
            for item in element.value:
                yield from _walk(item, f"{tag}/")


def _is_personal(element: Any) -> bool:
    if element.tag.element == 0:  # length of a group
        return False
    keyword = element.keyword
    group = element.tag.group & 0xFF00
    if element.tag.is_private or not keyword or group == 0x5000:  # unknown elements, curves
        return True
    if group == 0x6000:  # overlays
        return element.tag.element in {0x3000, 0x4000}
    if element.VR == "UI":
        return keyword not in _UIDS_KEPT and not keyword.endswith(_UIDS_OF_KINDS)
    return element.VR in _PERSONAL_VRS or keyword in _PERSONAL


def _keyword(element: Any) -> str:
    return "private" if element.tag.is_private else str(element.keyword or "unknown")


def _shown(element: Any) -> str:
    if element.VR == "SQ":
        return f"{len(element.value)} items"
    value = element.value
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
